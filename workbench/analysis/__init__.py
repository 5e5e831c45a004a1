"""From stored rows to tables: which rows are compared, tuned rates, budgets, comparisons."""
