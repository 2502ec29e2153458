"""The loop of every training, what a run is, devices and logs."""
