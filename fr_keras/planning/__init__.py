"""Predictions for N devices: simulated schedules, and a planner."""
