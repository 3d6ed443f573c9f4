"""What runs in the evaluation container: the model in model.tar.gz against the test set."""
