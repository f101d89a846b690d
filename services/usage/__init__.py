"""The usage service: what was spent: usage events, prices, budgets."""
