"""What training leaves in runs/NAME: manifest, scores, history."""
