"""What runs in the training and preprocessing containers: data, model, training, inference handlers."""
