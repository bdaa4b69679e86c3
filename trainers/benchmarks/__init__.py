"""The measurements behind `trainers.benchmark`, one file each."""
