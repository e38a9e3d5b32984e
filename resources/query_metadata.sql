-- Every image of MIMIC-CXR-JPG with its study's CheXpert labels, and why it is not kept if it is not.
--
-- BigQuery dialect. @views: the values of ViewPosition to keep (array of strings).
-- @limit: keep the first so many images (integer; never null, as BigQuery has no null parameters).
-- The two table names in braces are filled in before the query runs. Over the CSVs of a tree the
-- same text is transpiled to DuckDB.
--
-- chexpert has one row a study, so the join is on subject and study. Rows that are not kept come
-- back too, with their reason, so that the account and the table cannot disagree.
WITH labels AS (
  SELECT
    *,
    COUNT(*) OVER (PARTITION BY subject_id, study_id) AS label_rows
  FROM `{chexpert_table}`
),
joined AS (
  SELECT
    m.dicom_id,
    m.subject_id,
    m.study_id,
    m.ViewPosition AS view_position,
    l.Atelectasis,
    l.Cardiomegaly,
    l.Consolidation,
    l.Edema,
    l.Enlarged_Cardiomediastinum,
    l.Fracture,
    l.Lung_Lesion,
    l.Lung_Opacity,
    l.Pleural_Effusion,
    l.Pleural_Other,
    l.Pneumonia,
    l.Pneumothorax,
    l.Support_Devices,
    l.No_Finding,
    l.label_rows,
    CASE
      WHEN m.dicom_id IS NULL OR m.subject_id IS NULL OR m.study_id IS NULL THEN 'null_id'
      WHEN m.ViewPosition IS NULL THEN 'null_view'
      WHEN m.ViewPosition NOT IN UNNEST(@views) THEN 'other_view'
      WHEN l.label_rows IS NULL THEN 'no_label_row'
    END AS reason
  FROM `{metadata_table}` AS m
  LEFT JOIN labels AS l
    ON m.subject_id = l.subject_id AND m.study_id = l.study_id
),
-- dicom_id closes the order: without it a limited query is not repeatable.
numbered AS (
  SELECT
    *,
    ROW_NUMBER() OVER (PARTITION BY reason ORDER BY subject_id, study_id, dicom_id) AS position
  FROM joined
)
SELECT
  * EXCEPT (reason, position),
  CASE WHEN reason IS NULL AND position > @limit THEN 'limit' ELSE reason END AS dropped
FROM numbered
ORDER BY subject_id, study_id, dicom_id
