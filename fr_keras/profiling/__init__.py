"""What layers and modules take: measured, or estimated."""
