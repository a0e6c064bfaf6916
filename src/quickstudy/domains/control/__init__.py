"""Floor 5: robot control: policies that learn a task by trying, beside those that do not."""
