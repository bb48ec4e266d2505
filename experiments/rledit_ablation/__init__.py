"""What RLEdit's parts are worth."""
