"""One temperature matrix: reading, checking, writing, rendering to colour."""
