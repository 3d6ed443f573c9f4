"""AWS on one machine: one HTTP endpoint behind which jobs run, endpoints serve and stacks deploy."""
