"""What a provider lets through: `provider_limits` brings together what is configured, learned and forced.

`learned` infers limits from headers, `day_budget` spreads what is left of a day, `ceiling` and `slow_down` follow
refusals, `silence` tells whether anything is let through at all, `window` remembers what was let through lately,
`token_estimate` guesses a request's tokens before the reply does.
"""
