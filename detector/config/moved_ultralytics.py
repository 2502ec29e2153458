"""Keys of ultralytics' args.yaml and of a YOLO data set's YAML, each with what to write now."""

from detector.config.moved_maskrcnn import MASKS, Row

_DATA = "of a YOLO data set's YAML, which is no config: write DATASETS.TRAIN yolo:FILE.yaml:train"
_AUGMENTATION = "INPUT.AUGMENTATION ssd has colours, expansion and crops, by strengths of its own; delete the line"
_LOSSES = "losses are weighted as the head's paper has them; delete the line"
_CONVERTED = "a choice of `detector export`, not of a config; delete the line"
_SHOWN = "a choice of `detector predict`, not of a config; delete the line"
_WARMUP = "write SOLVER.WARMUP_ITERS and SOLVER.WARMUP_FACTOR"

_DELETED = (
    *("task", "mode", "cfg", "tracker", "cache", "exist_ok", "verbose", "deterministic", "profile", "plots", "rect"),
    *("single_cls", "dropout", "agnostic_nms", "time", "fraction", "compile", "split"),
)

ROWS: tuple[Row, ...] = (
    ("names", "*", _DATA),
    ("nc", "*", "write MODEL.NUM_CLASSES, 0 for as many as the data have"),
    ("path", "*", _DATA),
    ("train", "*", _DATA),
    ("val", "true", "write SOLVER.TEST_PERIOD, in steps; with SOLVER.EPOCHS each of them is tested"),
    ("val", "false", "write DATASETS.TEST ()"),
    ("val", "*", "write DATASETS.TEST yolo:FILE.yaml:val"),
    ("test", "*", "write DATASETS.TEST yolo:FILE.yaml:test"),
    ("download", "*", _DATA),
    ("data", "[!{]*", "write DATASETS.TRAIN yolo:FILE.yaml:train and DATASETS.TEST yolo:FILE.yaml:val"),
    ("model", "*yolo*", "there are no YOLO heads; write MODEL.BACKBONE.NAME and MODEL.HEAD.NAME"),
    ("model", "[!{]*", "write MODEL.BACKBONE.NAME and MODEL.HEAD.NAME, or MODEL.WEIGHT for a file of weights"),
    ("epochs", "*", "write SOLVER.EPOCHS"),
    ("patience", "*", "write SOLVER.PATIENCE, in evaluations"),
    ("batch", "-1", "leave it out and add --batch auto to `detector train`"),
    ("batch", "*", "write SOLVER.IMS_PER_BATCH"),
    ("imgsz", "*", "write INPUT.MIN_SIZE_TRAIN and INPUT.MIN_SIZE_TEST, shorter sides in pixels"),
    ("save", "*", "write SOLVER.CHECKPOINT_PERIOD, in steps"),
    ("save_period", "*", "write SOLVER.CHECKPOINT_PERIOD, in steps"),
    ("device", "*", "write MODEL.DEVICE"),
    ("workers", "*", "write DATALOADER.NUM_WORKERS"),
    ("project", "*", "write OUTPUT_DIR"),
    ("name", "*", "write OUTPUT_DIR"),
    ("pretrained", "true", "write MODEL.WEIGHT imagenet"),
    ("pretrained", "false", 'write MODEL.WEIGHT ""'),
    ("pretrained", "*", "write MODEL.WEIGHT"),
    ("optimizer", "adamw", "write SOLVER.OPTIMIZER adamw"),
    ("optimizer", "[!{]*", "write SOLVER.OPTIMIZER sgd or adamw"),
    ("seed", "*", "write SEED"),
    ("cos_lr", "true", "write SOLVER.SCHEDULE cosine"),
    ("cos_lr", "*", "write SOLVER.SCHEDULE multi_step"),
    ("resume", "*", "leave it out; write `detector train RUN --resume`"),
    ("amp", "true", "write SOLVER.AMP fp16 (or bf16)"),
    ("amp", "*", "write SOLVER.AMP off"),
    ("freeze", "*", "write MODEL.BACKBONE.FREEZE_CONV_BODY_AT: 1 the stem, 2 layer1 too, .. 5 all"),
    ("lr0", "*", "write SOLVER.BASE_LR"),
    ("lrf", "*", "the rate ends at 0 with SOLVER.SCHEDULE cosine; delete the line"),
    ("momentum", "*", "write SOLVER.MOMENTUM"),
    ("weight_decay", "*", "write SOLVER.WEIGHT_DECAY"),
    ("warmup_*", "*", _WARMUP),
    ("nbs", "*", "write SOLVER.REFERENCE_BATCH: images a step that the schedule is for"),
    ("multi_scale", "*", "write several sizes in INPUT.MIN_SIZE_TRAIN, or INPUT.MIN_SIZE_RANGE_TRAIN"),
    ("fliplr", "*", "write INPUT.HORIZONTAL_FLIP_PROB_TRAIN"),
    ("conf", "*", "add --threshold to `detector predict`"),
    ("iou", "*", "write MODEL.FCOS.NMS_TH, MODEL.ROI_HEADS.NMS or MODEL.REFINEDET.NMS, the key of the head"),
    ("max_det", "*", "write TEST.DETECTIONS_PER_IMG"),
    ("half", "true", "write TEST.AMP fp16 or bf16"),
    ("half", "*", "write TEST.AMP off"),
    ("augment", "*", "write TEST.BBOX_AUG.ENABLED and TEST.BBOX_AUG.SCALES"),
    *((key, "*", _LOSSES) for key in ("box", "cls", "dfl", "label_smoothing")),
    *((key, "*", MASKS) for key in ("pose", "kobj", "overlap_mask", "mask_ratio", "retina_masks")),
    *((key, "*", _AUGMENTATION) for key in ("hsv_h", "hsv_s", "hsv_v", "degrees", "translate", "scale", "shear")),
    *((key, "*", _AUGMENTATION) for key in ("perspective", "flipud", "bgr", "mosaic", "mixup", "cutmix")),
    *((key, "*", _AUGMENTATION) for key in ("copy_paste*", "auto_augment", "erasing", "crop_fraction", "close_mosaic")),
    *((key, "*", _CONVERTED) for key in ("format", "keras", "optimize", "int8", "dynamic", "simplify", "opset")),
    *((key, "*", _CONVERTED) for key in ("workspace", "nms", "dnn")),
    *((key, "*", _SHOWN) for key in ("source", "vid_stride", "stream_buffer", "visualize", "classes", "embed")),
    *((key, "*", _SHOWN) for key in ("show*", "save_*", "line_width")),
    *((key, "*", "delete the line") for key in _DELETED),
)
