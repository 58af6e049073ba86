"""A plugin that is broken on purpose."""

raise ImportError("this plugin is broken on purpose")
