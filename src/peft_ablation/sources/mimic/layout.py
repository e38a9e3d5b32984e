"""Where files lie in a MIMIC-CXR-JPG tree."""


def image_path(subject_id: int, study_id: int, dicom_id: str, suffix: str = ".jpg") -> str:
    """Return an image's path under the root of the tree, as PhysioNet lays it out."""
    return f"files/p{str(subject_id)[:2]}/p{subject_id}/s{study_id}/{dicom_id}{suffix}"
