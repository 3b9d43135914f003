"""Lightning modules: the detector, and the order heads that learn on a finished one."""
