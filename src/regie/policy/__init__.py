"""Who may do what: one question, one decision with its reasons. Policies are Cedar files of the workspace, and ours."""
