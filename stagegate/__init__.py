"""Stagegate: CI/CD for machine-learning models on AWS Step Functions, on AWS and on one machine."""

__version__ = "0.1.0"
