"""What N devices would do: schedules simulated, and a planner."""
