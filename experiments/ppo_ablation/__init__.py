"""What PPO's parts are worth."""
