"""Brings a store of an earlier version up to date: a module a step, with Alembic's operations.

The version is the number in the table `store`. All steps happen in one transaction: a store is
upgraded whole or stays as it was.
"""
