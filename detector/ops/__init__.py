"""Pure tensor functions of detection: no modules, no state, no config."""
