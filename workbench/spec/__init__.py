"""What a person writes down: experiments and sweeps, their names and packaged presets."""
