"""Where a score comes from: occlusion for any model, Grad-CAM for networks, and checks of both."""
