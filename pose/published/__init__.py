"""Systems whose published weights become runs here (pose.tools.convert).  One file each."""
