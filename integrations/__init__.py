"""What other frameworks call: boosting objectives, estimators, drop-in losses, trainers' hooks.

Each module is named for the framework that it serves. ``import xp_xent.integrations`` imports none
of them; a module imports its own framework inside the function that needs it, and at its top only
where it defines classes of that framework.
"""
