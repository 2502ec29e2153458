"""How good detections are: measures, result files, and their printed form."""
