"""`python -m bench.tls`: how fast thousands of TLS endpoints are looked at, and in how much memory.

A farm in a process of its own serves them on loopback addresses; 4 of 100 hang, 14 are in some other trouble.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from ipaddress import ip_network
from itertools import batched
from pathlib import Path

import uvloop

from regie.core.capabilities.tls import MOST_ENDPOINTS, Endpoint
from regie.kit.tls.asking import Answers, GuardedFetch, Revocation
from regie.kit.tls.certificates import parse_file
from regie.kit.tls.handshake import Client
from regie.kit.tls.judging import summed_up
from regie.kit.tls.reaching import Reach
from regie.kit.tls.scanning import Bounds, Scanner
from regie.kit.tls.trust import Roots
