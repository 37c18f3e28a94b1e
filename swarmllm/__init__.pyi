"""The public names, each once: type checkers read this file, and `swarmllm/__init__.py` reads it to
find a name's module.

One `from MODULE import NAME as NAME` a line. What is not here may change in any version.
"""

__all__: list[str]

from swarmllm.assembly import Parts as Parts
from swarmllm.assembly import configure as configure
from swarmllm.assembly import open_node as open_node
from swarmllm.core.chat import ChatMessage as ChatMessage
from swarmllm.core.events import ExpertFound as ExpertFound
from swarmllm.core.events import ExpertLost as ExpertLost
from swarmllm.core.events import ExpertUse as ExpertUse
from swarmllm.core.events import LifeEvent as LifeEvent
from swarmllm.core.events import LogDoubted as LogDoubted
from swarmllm.core.events import NodeHalted as NodeHalted
from swarmllm.core.events import NodeResumed as NodeResumed
from swarmllm.core.events import NotLetIn as NotLetIn
from swarmllm.core.events import PeerSeen as PeerSeen
from swarmllm.core.events import ServingPaused as ServingPaused
from swarmllm.core.events import ServingResumed as ServingResumed
from swarmllm.core.events import TokenChosen as TokenChosen
from swarmllm.core.events import Weighed as Weighed
from swarmllm.core.grammar import GrammarSource as GrammarSource
from swarmllm.core.metrics.observer import Sample as Sample
from swarmllm.core.metrics.table import Metric as Metric
from swarmllm.core.peers.reachability import PortMapping as PortMapping
from swarmllm.core.peers.reachability import Reach as Reach
from swarmllm.core.peers.reachability import Reachability as Reachability
from swarmllm.core.peers.view import ExpertView as ExpertView
from swarmllm.core.peers.view import NodeView as NodeView
from swarmllm.core.peers.view import VocabularyView as VocabularyView
from swarmllm.core.serving.lending import MachineUse as MachineUse
from swarmllm.core.thinking import Thinking as Thinking
from swarmllm.core.trust.receipt import Signed as Signed
from swarmllm.core.trust.standing import Standing as Standing
from swarmllm.core.trust.standing import Word as Word
from swarmllm.core.values import EngineLoad as EngineLoad
from swarmllm.core.values import ModelCard as ModelCard
from swarmllm.core.values import Only as Only
from swarmllm.core.values import Sampling as Sampling
from swarmllm.errors import HaltedError as HaltedError
from swarmllm.errors import LocalError as LocalError
from swarmllm.errors import RemoteError as RemoteError
from swarmllm.errors import SwarmError as SwarmError
from swarmllm.errors import UsageError as UsageError
from swarmllm.messages import CapacityRecord as CapacityRecord
from swarmllm.messages import PeerId as PeerId
from swarmllm.runtime.config import Config as Config
from swarmllm.runtime.queues import LifeFeed as LifeFeed
from swarmllm.runtime.service.answer import Answer as Answer
from swarmllm.runtime.service.answer import Notice as Notice
from swarmllm.runtime.service.answer import Piece as Piece
from swarmllm.runtime.service.answer import Weighing as Weighing
from swarmllm.runtime.service.halts import HaltService as HaltService
from swarmllm.runtime.service.json_events import Life as Life
from swarmllm.runtime.service.json_events import Listening as Listening
from swarmllm.runtime.service.json_events import ModelReady as ModelReady
from swarmllm.runtime.service.json_events import Progress as Progress
from swarmllm.runtime.service.json_events import Ready as Ready
from swarmllm.runtime.service.json_events import ServiceOpened as ServiceOpened
from swarmllm.runtime.service.json_events import Starting as Starting
from swarmllm.runtime.service.json_events import Stopped as Stopped
from swarmllm.runtime.service.json_events import Stopping as Stopping
from swarmllm.runtime.service.json_events import Warned as Warned
from swarmllm.runtime.service.local_node import LocalNode as LocalNode
from swarmllm.runtime.service.local_node import Status as Status
from swarmllm.runtime.service.request import TextRequest as TextRequest
from swarmllm.runtime.service.result import Result as Result
