"""Lightning callbacks and loggers of training and evaluation."""
