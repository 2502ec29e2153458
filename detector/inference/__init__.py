"""Trained models at work: made ready, and from images to detections."""
