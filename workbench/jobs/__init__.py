"""Work of the app in processes of its own: races, sweeps, look-alikes, reading of logs."""
