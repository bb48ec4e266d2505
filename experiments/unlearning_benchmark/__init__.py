"""Every editor of the unlearning family against retraining, with intervals and tests."""
