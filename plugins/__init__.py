"""ms-swift external plugins: imported by `swift` itself through external_plugins, so they import nothing of ours."""

import sys

# They import each other by bare name, because ms-swift imports one with its folder in the path; so does whoever imports
# them as a package. At the end: nothing else is found here first.
if __path__[0] not in sys.path:
    sys.path.append(__path__[0])
