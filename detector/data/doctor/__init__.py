"""What is wrong with data sets beyond what their readers notice: pure functions on packed annotations, in one table.

Each file looks for one group of kinds and declares them; `checks.CHECKS` lists the functions. Nothing here needs torch.
"""
