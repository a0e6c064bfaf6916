"""Floor 5: finance: forecasts of volatility and of direction, with the baselines and figures of the field."""
