"""The state machines, written with the Step Functions Data Science SDK; `render.py` writes statemachines/."""
