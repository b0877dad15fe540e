"""What a provider lets through: `limits` brings together what is configured, learned and forced.

`learned` infers limits from headers, `day_budget` spreads what is left of a day, `ceiling` and `slow_down` follow
refusals, `taken` remembers what was let through lately, `estimate` guesses a request's tokens before the reply does.
"""
