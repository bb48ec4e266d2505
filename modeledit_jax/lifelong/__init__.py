"""Language models edited over thousands of facts, by closed-form and by learned editors."""
