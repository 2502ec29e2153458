"""Reports of comparisons: tables and documents."""
