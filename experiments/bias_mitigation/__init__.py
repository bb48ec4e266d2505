"""Make a toxicity classifier indifferent to identity terms."""
