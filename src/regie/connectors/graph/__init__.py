"""Microsoft Graph: accounts, managers, groups and sign-in sessions of Entra ID."""
