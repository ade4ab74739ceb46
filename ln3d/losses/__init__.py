"""What the trainings minimise."""
