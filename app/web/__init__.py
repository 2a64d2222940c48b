"""What every route uses: addresses, parameters, caching, errors, templates."""
