"""The keys that help where memory is short or a training diverges, the best first, with their values."""

from collections.abc import Iterator

from yacs.config import CfgNode

from detector.distributed import world_size
from detector.engine.trouble import Remedies


def remedies(cfg: CfgNode, training: bool) -> Remedies:
    """For a detector that is trained, or one that is tested or predicts with."""
    memory = "; ".join(_training(cfg) if training else _testing(cfg))
    return Remedies(memory or "a smaller backbone", f"DATALOADER.NUM_WORKERS (now {cfg.DATALOADER.NUM_WORKERS})")


def divergence_advice(solver: CfgNode) -> str:
    """What calms a training down, as far as it is not so already."""
    found = ["lower SOLVER.BASE_LR", "lengthen SOLVER.WARMUP_ITERS"]
    if not solver.CLIP_GRAD_NORM:
        found.append("set SOLVER.CLIP_GRAD_NORM 10")
    if solver.AMP != "off":
        found.append("set SOLVER.AMP off")
    text = f"{', '.join(found[:-1])} or {found[-1]}"
    return text[0].upper() + text[1:]


def _training(cfg: CfgNode) -> Iterator[str]:
    solver, images = cfg.SOLVER, cfg.SOLVER.IMS_PER_BATCH
    if solver.AMP == "off":
        yield "SOLVER.AMP bf16, or fp16 on older cards (now off)"
    if images > 1:
        reference = solver.REFERENCE_BATCH or images
        yield f"SOLVER.IMS_PER_BATCH {images // 2} SOLVER.REFERENCE_BATCH {reference} (now {images} images a step)"
    if images // world_size() >= 2 * solver.ACCUM_ITERS:
        yield f"SOLVER.ACCUM_ITERS {2 * solver.ACCUM_ITERS} (now {solver.ACCUM_ITERS})"
    stages, frozen = cfg.MODEL.BACKBONE.CHECKPOINT_STAGES, cfg.MODEL.BACKBONE.FREEZE_CONV_BODY_AT
    again = ",".join(str(stage) for stage in (1, 2, 3, 4) if stage >= frozen)
    if again and not stages:
        yield f"MODEL.BACKBONE.CHECKPOINT_STAGES {again} (now none)"
    yield _sizes(cfg, "TRAIN")
    if cfg.MODEL.HEAD.NAME == "faster_rcnn":
        yield from _halved(cfg.MODEL.ROI_HEADS, "MODEL.ROI_HEADS", "BATCH_SIZE_PER_IMAGE", 128)
        yield from _halved(cfg.MODEL.RPN, "MODEL.RPN", "POST_NMS_TOP_N_TRAIN", 500)
    if cfg.MODEL.BACKBONE.FREEZE_CONV_BODY_AT < 2 and cfg.MODEL.WEIGHT:
        yield f"MODEL.BACKBONE.FREEZE_CONV_BODY_AT 2 (now {cfg.MODEL.BACKBONE.FREEZE_CONV_BODY_AT})"
    yield f"a smaller MODEL.BACKBONE.NAME (now {cfg.MODEL.BACKBONE.NAME})"


def _testing(cfg: CfgNode) -> Iterator[str]:
    images = cfg.TEST.IMS_PER_BATCH
    if images > 1:
        yield f"TEST.IMS_PER_BATCH 1 (now {images})"
    if cfg.TEST.AMP == "off":
        yield "TEST.AMP bf16, or fp16 on older cards (now off)"
    if cfg.TEST.BBOX_AUG.ENABLED and cfg.TEST.BBOX_AUG.SCALES:
        yield f"smaller TEST.BBOX_AUG.SCALES (now {list(cfg.TEST.BBOX_AUG.SCALES)})"
    yield _sizes(cfg, "TEST")


def _sizes(cfg: CfgNode, part: str) -> str:
    node = cfg.INPUT
    if node.SQUARE_SIZE:
        return f"a smaller INPUT.SQUARE_SIZE (now {node.SQUARE_SIZE})"
    longest = node[f"MAX_SIZE_{part}"]
    return f"INPUT.MAX_SIZE_{part} {max(longest * 3 // 4, 1)} and a smaller MIN_SIZE_{part} (now {longest})"


def _halved(node: CfgNode, section: str, key: str, least: int) -> Iterator[str]:
    if node[key] > least:
        yield f"{section}.{key} {node[key] // 2} (now {node[key]})"
