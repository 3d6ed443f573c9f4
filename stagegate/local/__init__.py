"""AWS on one machine: one HTTP endpoint behind which jobs run, endpoints serve, mail is sent and stacks deploy."""
