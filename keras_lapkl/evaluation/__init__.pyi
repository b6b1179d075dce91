from . import (
    audit_sheet as audit_sheet,
    comparison as comparison,
    convention_checks as convention_checks,
    label_audit as label_audit,
    label_faults as label_faults,
    matching as matching,
    plots as plots,
    scoring as scoring,
    tracking_scores as tracking_scores,
)
from .comparison import (
    compare as compare,
)
from .model_report import (
    conditions as conditions,
    confidence_lines as confidence_lines,
    part_lines as part_lines,
    table as table,
)
from .model_scores import (
    SHARES as SHARES,
    by_cheeks as by_cheeks,
    calibrate as calibrate,
    check_confidence as check_confidence,
    default_normalizer as default_normalizer,
    evaluate_model as evaluate_model,
    face_errors as face_errors,
    in_photos as in_photos,
    landmark_errors as landmark_errors,
    predict_flip_averaged as predict_flip_averaged,
    score as score,
)
from .scoring import (
    NORMALIZER_MEANINGS as NORMALIZER_MEANINGS,
)
