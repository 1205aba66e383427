"""ms-swift external plugins: imported by `swift` itself through external_plugins, so they import nothing of ours."""
