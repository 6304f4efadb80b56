"""Schema, hidden values, node base class and node result."""

from dataclasses import dataclass
from enum import Enum


class Hidden(str, Enum):
    """Values the host hands to a node that asks for them in its schema."""

    unique_id = "UNIQUE_ID"
    prompt = "PROMPT"
    extra_pnginfo = "EXTRA_PNGINFO"
    dynprompt = "DYNPROMPT"
    auth_token_comfy_org = "AUTH_TOKEN_COMFY_ORG"
    api_key_comfy_org = "API_KEY_COMFY_ORG"


class HiddenHolder:
    """`cls.hidden` during execution: one attribute per hidden value, None where not asked for."""

    def __init__(self, values):
        for member in Hidden:
            setattr(self, member.name, values.get(member))

    def __getattr__(self, name):
        return None


@dataclass
class Schema:
    """The fields of 0.3.64 in their order; one more argument is a TypeError, as it is there."""

    node_id: str
    display_name: str = None
    category: str = "sd"
    inputs: list = None
    outputs: list = None
    hidden: list = None
    description: str = ""
    is_input_list: bool = False
    is_output_node: bool = False
    is_deprecated: bool = False
    is_experimental: bool = False
    is_api_node: bool = False
    not_idempotent: bool = False
    enable_expand: bool = False

    def finalize(self):
        """Output nodes always see prompt and extra_pnginfo; unnamed outputs get an id."""
        if self.is_output_node:
            self.hidden = list(self.hidden or [])
            for always in (Hidden.prompt, Hidden.extra_pnginfo):
                if always not in self.hidden:
                    self.hidden.append(always)
        for index, output in enumerate(self.outputs or []):
            if output.id is None:
                output.id = f"_{index}_{output.io_type}_"

    def validate(self):
        """Every id occurs once, over inputs and outputs together."""
        ids = [item.id for item in [*(self.inputs or []), *(self.outputs or [])]]
        twice = sorted({name for name in ids if ids.count(name) > 1})
        if twice:
            raise ValueError(f"Schema of {self.node_id}: ids used more than once: {twice}")

    def input_types(self):
        """{"required": {id: (type, options)}, "optional": ..., "hidden": ...}."""
        found = {"required": {}}
        for item in self.inputs or []:
            group = "optional" if item.optional else "required"
            found.setdefault(group, {})[item.id] = (item.get_io_type(), item.as_dict())
        for member in self.hidden or []:
            found.setdefault("hidden", {})[member.name] = (member.value,)
        return found


class _LockedClass(type):
    """Class of the clone a node runs as: its attributes cannot be set."""

    def __setattr__(cls, name, value):
        raise AttributeError(f"{cls.__name__}.{name} cannot be set while the node runs")


class ComfyNode:
    """Base of every V3 node; all of its methods are class methods."""

    RELATIVE_PYTHON_MODULE = None
    SCHEMA = None
    hidden = None

    @classmethod
    def define_schema(cls):
        raise NotImplementedError

    @classmethod
    def execute(cls, **kwargs):
        raise NotImplementedError

    @classmethod
    def validate_inputs(cls, **kwargs):
        raise NotImplementedError

    @classmethod
    def fingerprint_inputs(cls, **kwargs):
        raise NotImplementedError

    @classmethod
    def check_lazy_status(cls, **kwargs):
        return [name for name, value in kwargs.items() if value is None]

    @classmethod
    def overrides(cls, name):
        """Whether the node has its own `name` (stand-in only)."""
        return getattr(cls, name).__func__ is not getattr(ComfyNode, name).__func__

    @classmethod
    def FINALIZE_SCHEMA(cls):
        schema = cls.define_schema()
        schema.finalize()
        return schema

    @classmethod
    def GET_SCHEMA(cls):
        for needed in ("define_schema", "execute"):
            if not cls.overrides(needed):
                raise TypeError(f"{cls.__name__} does not define {needed}")
        schema = cls.FINALIZE_SCHEMA()
        schema.validate()
        cls.SCHEMA = schema
        return schema

    @classmethod
    def INPUT_TYPES(cls, include_hidden=True, return_schema=False):
        schema = cls.FINALIZE_SCHEMA()
        found = schema.input_types()
        if not include_hidden:
            found.pop("hidden", None)
        return (found, schema) if return_schema else found

    @classmethod
    def GET_NODE_INFO_V1(cls):
        """The node's entry in /object_info."""
        schema = cls.GET_SCHEMA()
        inputs, outputs = schema.input_types(), schema.outputs or []
        return {
            "input": inputs,
            "input_order": {group: list(found) for group, found in inputs.items()},
            "output": [item.io_type for item in outputs],
            "output_is_list": [item.is_output_list for item in outputs],
            # 0.3.64 shows the type where there is no display name; the id is lost.
            "output_name": [item.display_name or item.io_type for item in outputs],
            "output_tooltips": [item.tooltip for item in outputs],
            "name": schema.node_id,
            "display_name": schema.display_name,
            "description": schema.description,
            "python_module": cls.RELATIVE_PYTHON_MODULE or "nodes",
            "category": schema.category,
            "output_node": schema.is_output_node,
            "deprecated": schema.is_deprecated,
            "experimental": schema.is_experimental,
            "api_node": schema.is_api_node,
        }

    @classmethod
    def PREPARE_CLASS_CLONE(cls, hidden_inputs):
        """The locked subclass a run executes, so that a node keeps no state of its own."""
        return _LockedClass(cls.__name__, (cls,), {"hidden": HiddenHolder(hidden_inputs or {})})


class NodeOutput:
    """What `execute` returns: values in the order of the outputs, and what the page shows."""

    def __init__(self, *args, ui=None, expand=None, block_execution=None):
        self.args = args
        self.ui = ui
        self.expand = expand
        self.block_execution = block_execution

    @property
    def result(self):
        return self.args or None

    def __getitem__(self, index):
        return self.args[index]
