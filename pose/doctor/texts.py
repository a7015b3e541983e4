"""What can be found in annotations: how bad it is, what it does to AP and to training, what to do."""

from __future__ import annotations

from dataclasses import dataclass

from pose.annotations.issues import CODES, Level


@dataclass(frozen=True)
class Kind:
    """One thing that can be wrong with a file."""

    level: Level  # serious: mend it; doubtful: look at the examples; note: good to know
    what: str  # after a count
    ap: str
    training: str
    advice: str
    natural: float = 0.0  # up to this share of what was looked at it is a note: careful files have as much


def _read(code: str, ap: str, advice: str, training: str = "") -> Kind:
    """A kind that the reader finds: level and words are those of its code."""
    found = CODES[code]
    does = "refused: pose.train stops" if found.stops else found.training or "none"
    return Kind(found.level, found.what, ap, training or does, advice)


KINDS: dict[str, Kind] = {
    # ------------------------------------------------------------------------------ the file as a whole
    "names": Kind(
        "serious", "other keypoints than the config's skeleton",
        "not scored: results and truth have other keypoints",
        "refused, or keypoints are taken for others",
        "set data.skeleton to the file's own (data.skeleton=annotations), or rename them in its category",
    ),
    "limbs": Kind(
        "note", "the category's `skeleton` is not used", "none",
        "heads that need limbs (paf) refuse data.skeleton=annotations; others do not need them",
        "mend `skeleton` in the category, or name one of the project's skeletons",
    ),
    "no_images": _read("no_images", "nothing to score", "is it the file that you mean?"),
    "no_people": Kind(
        "serious", "no person with labelled keypoints in the file", "nothing to score", "nothing to learn",
        "is it the file of another task (boxes only, a test set without labels)?",
    ),
    "unnamed": _read(
        "unnamed", "none where they are", "add `keypoints: [names]` to the category: other tools need them"
    ),
    "shares": _read(
        "shares", "nothing that is found fits",
        "multiply x by the image's width and y by its height; boxes too",
    ),
    "percent": _read(
        "percent", "nothing that is found fits",
        "if so, multiply x by a hundredth of the image's width and y by one of its height; boxes too",
    ),
    "no_sides": _read(
        "no_sides", "mirrored passes of the test exchange sides: half of the heat is in the wrong place",
        "name the partners: data.skeleton={base: annotations, mirror: {NAME: PARTNER, ...}}; or turn "
        "mirroring off: data.augment.flip=0 test.flip=false",
        "half of the samples have left and right exchanged",
    ),
    "never_labelled": Kind(
        "doubtful", "keypoint(s) of the skeleton that nobody has labelled",
        "not scored, whatever is predicted", "taught to be absent everywhere",
        "leave it out of the skeleton, or train on a mixture (data.sets), which does not teach it",
    ),
    "sides_file": Kind(
        "serious", "left and right seem exchanged in the whole file",
        "people found correctly score as if all sides were wrong",
        "the network learns the sides the other way round; weights trained elsewhere contradict it",
        "look at the examples; exchange the names of left and right in the category's keypoints",
    ),
    "sides_pair": Kind(
        "serious", "pair(s) whose left and right contradict the trunk in most people",
        "half of that pair's keypoints are judged as misses", "sides of these keypoints are learnt wrongly",
        "exchange the two names in the category's keypoints",
    ),
    "shared": Kind(
        "serious", "validation picture(s) that are trained on, too",
        "too high: what was learnt by heart is asked", "none; but the best checkpoint is chosen by it",
        "take them out of one of the two sets, or name them in data.validation_ids",
    ),
    "crowdpose": Kind(
        "note", "this is a CrowdPose file", "by CrowdPose's own rules (pose.tools.score crowdpose)",
        "as any other file", "nothing; the examples are what other tools get wrong",
    ),
    # ----------------------------------------------------------------------------------------- images
    "image_entry": _read("image_entry", "their people are not scored", "complete the entries"),
    "image_size": _read(
        "image_size", "none", "add width and height, or give the images: sizes are read from them"
    ),
    "huge_image": _read("huge_image", "none", "is it the size in pixels?"),
    "size_read": _read("size_read", "none", "nothing; other tools may need width and height"),
    "same_image": _read("same_image", "none", "remove one of the two"),
    "image_id_key": _read("image_id_key", "none", "call it id: other tools need that"),
    "file_name_key": _read("file_name_key", "none", "call it file_name: other tools need that"),
    "image_float": _read("image_float", "none", "write whole numbers without a fraction: other tools stop"),
    "image_text": _read("image_text", "none", "write numbers without quotes: other tools stop"),
    "same_image_id": Kind(
        "serious", "image(s) whose id another image has",
        "people of two pictures are scored as one picture's", "refused: pose.train stops",
        "give every image an id of its own, and its annotations that image_id",
    ),
    "same_file": Kind(
        "serious", "image(s) whose file another image names, too",
        "their people count twice, or are missing in one of the two",
        "people of the other entry are taught as background", "merge the two entries",
    ),
    "no_annotations": Kind(
        "note", "image(s) without any person", "everybody found there is a false positive",
        "used as data.negatives says", "check that nobody was forgotten: look at some of them",
    ),
    "crowded": Kind(
        "note", "image(s) with more than 20 people", "COCO counts the best 20 results of an image: AR and AP "
        "cannot reach 1", "people beyond data.max_people are taken for background", "nothing, or crop them",
    ),
    # ------------------------------------------------------------------------------------ annotations
    "annotation_entry": _read(
        "annotation_entry", "refused", "complete the entries: id, image_id, category_id"
    ),
    "absent_image": Kind(
        "serious", "annotation(s) for an image that the file does not list",
        "not scored: neither found nor missed", "left out",
        "add the images, or remove the annotations",
    ),
    "annotation_float": _read("annotation_float", "none", "write whole numbers without a fraction"),
    "annotation_text": _read("annotation_text", "none", "write numbers without quotes: other tools stop"),
    "truth_text": _read(
        "truth_text", "none", "write 0 or 1: other tools take every text for a crowd, \"0\" too"
    ),
    "iscrowd": _read("iscrowd", "a number other than 0 counts as a crowd", "write 0 or 1"),
    "category": Kind(
        "serious", "annotation(s) with keypoints but of a category that lists none",
        "not scored: neither found nor missed", "left out: taught as background",
        "give them the category_id of the category that lists keypoints",
    ),
    "other_category": _read("other_category", "not scored", "choose the category that you mean"),
    "keypoint_length": Kind(
        "serious", "keypoint list(s) of another length than the names", "refused", "refused",
        "three numbers (x, y, v) for each name of the category, 0 0 0 where it is not labelled",
    ),
    "keypoints_key": _read(
        "keypoints_key", "not scored: neither found nor missed", "call the list `keypoints`"
    ),
    "same_annotation": _read(
        "same_annotation", "counted twice: the copy is always missed", "remove one of the two"
    ),
    "same_annotation_id": Kind(
        "serious", "annotation(s) whose id another has",
        "pose.test numbers them anew; pycocotools and the official server drop people without a word",
        "kept", "number the annotations 1, 2, 3, ...",
    ),
    "annotation_id": Kind(
        "serious", "annotation(s) without a whole-number id above 0",
        "pose.test numbers them anew; pycocotools counts a found person with id 0 as missed", "none",
        "number the annotations 1, 2, 3, ...",
    ),
    "box": _read("box", "refused", "x, y, width, height in pixels, or no bbox"),
    "copies": Kind(
        "serious", "person(s) annotated twice in one picture",
        "the copy is always missed, a bit of AR and AP",
        "both copies are pushed apart by tags and compete for the same keypoints", "remove one of the two",
    ),
    # -------------------------------------------------------------------------------------- keypoints
    "not_finite": Kind(
        "serious", "person(s) with a labelled keypoint that is no number", "refused",
        "the keypoint counts as not labelled", "mend the numbers, or set v to 0",
    ),
    "not_finite_unlabelled": _read("not_finite_unlabelled", "none", "write 0, 0, 0"),
    "nested": _read("nested", "none", "write one list x, y, v, x, y, v, ...: other tools stop"),
    "visibility_truth": _read("visibility_truth", "true counts as labelled", "write 0, 1 or 2"),
    "minus_one": _read(
        "minus_one", "never found: it costs its share of the person's similarity", "set v to 0 there"
    ),
    "visibility": Kind(
        "serious", "person(s) with a keypoint whose v is not 0, 1 or 2",
        "COCO counts every v above 0 as labelled", "the keypoint counts as not labelled",
        "0 not labelled, 1 occluded, 2 visible (AI Challenger's own files: python -m pose.tools.aic to-coco)",
    ),
    "origin": Kind(
        "serious", "person(s) with a keypoint at 0, 0 that is called labelled",
        "never found: it costs its share of the person's similarity", "pulls the person to the corner",
        "set v to 0 where nothing is labelled",
    ),
    "outside": Kind(
        "serious", "person(s) with a labelled keypoint outside the picture",
        "cannot be found: it costs its share of the person's similarity",
        "none where it is off the canvas; else learnt on the border's filling",
        "set v to 0; many of them: is the picture turned (EXIF), resized, or another one?",
    ),
    "num_keypoints_zero": Kind(
        "serious", "labelled person(s) with num_keypoints 0",
        "COCO ignores them: neither found nor missed", "trained on as others",
        "set num_keypoints to the number of keypoints with v above 0",
    ),
    "num_keypoints_empty": Kind(
        "serious", "person(s) without labelled keypoints but with num_keypoints above 0",
        "scored against the box: nearly always missed", "masked as unlabelled people",
        "set num_keypoints to the number of keypoints with v above 0",
    ),
    "num_keypoints": Kind(
        "doubtful", "person(s) whose num_keypoints is another number than are labelled",
        "none: only 0 or not counts", "none: it is not read",
        "set it to the number of keypoints with v above 0; or were keypoints lost on the way?",
    ),
    "sides_person": Kind(
        "doubtful", "person(s) with left and right exchanged in one pair (shoulders, hips, eyes or ears)",
        "that pair counts as missed where it is found correctly", "contradictory sides blur these heatmaps",
        "look at them; exchange the two keypoints", natural=0.015,
    ),
    "sides_face": Kind(
        "doubtful", "person(s) who show both eyes with the left one on the wrong side",
        "up to all keypoints of the person count as missed",
        "contradictory sides blur the heatmaps; were mirrored pictures added without exchanging the sides?",
        "look at them; exchange left and right in these people", natural=0.015,
    ),
    # ------------------------------------------------------------------------------------ area and box
    "area_missing": Kind(
        "doubtful", "labelled person(s) without an area", "0.53 of the box is taken, the ratio to COCO's "
        "masks; other tools stop or take 0", "the same area, used to choose whom to crop round",
        "add the area of the person's mask, or 0.53 of the box's",
    ),
    "area_range": _read("area_range", "not scored: neither found nor missed", "is it in square pixels?"),
    "area_zero": Kind(
        "serious", "labelled person(s) whose area is zero or negative",
        "0: only an exact hit counts, so always missed; below 0: 0.53 of the box is taken",
        "0.53 of the box is taken", "set the area of the mask, or 0.53 of the box's",
    ),
    "area_box": Kind(
        "serious", "person(s) whose area is larger than the box or less than a fiftieth of it",
        "similarity forgives too much (large) or too little (small)", "no effect on the loss",
        "is it in pixels of a resized picture, a share of 1, a side instead of an area?",
    ),
    "area_extent": Kind(
        "serious", "person(s) whose area contradicts how far apart the keypoints lie",
        "similarity forgives too much or too little", "no effect on the loss",
        "area and keypoints must be in pixels of the same picture",
    ),
    "box_missing": Kind(
        "doubtful", "labelled person(s) without a box of positive size",
        "none, but other tools need one", "the keypoints' own box is taken", "add bbox: x, y, width, height",
    ),
    "box_keypoints": Kind(
        "doubtful", "person(s) with keypoints farther outside the box than half its longer side",
        "none, where the area is right", "crops round a person miss it; 0.53 of the box is too small an area",
        "is bbox x0, y0, x1, y1 instead of x, y, width, height? or of somebody else?", natural=0.001,
    ),
    "box_picture": Kind(
        "doubtful", "person(s) whose box reaches far outside the picture (a tenth of its side)",
        "areas taken from boxes are too large: similarity forgives too much", "none",
        "cut the boxes at the picture's border; are they x, y, width, height in pixels?",
    ),
    "small": Kind(
        "note", "labelled person(s) with an area below 32 x 32 pixels",
        "in AP, but in neither APM nor APL; a pixel of error decides", "hardly any cells at the network's "
        "stride", "COCO itself labels nobody so small; leave them unlabelled (num_keypoints 0) if you can",
    ),
    # ---------------------------------------------------------------------------------- what is masked
    "region": Kind(
        "serious", "crowd(s) or people without keypoints, with neither a mask nor a box",
        "results there are false positives if no annotation is ignored there",
        "taught as background: people in it count as mistakes", "add a segmentation or a bbox",
    ),
    "crowd_box": Kind(
        "note", "crowd(s) without a usable segmentation", "COCO ignores results by the box",
        "the whole box is masked, other people in it, too", "add the segmentation (run lengths)",
    ),
    "unlabelled": Kind(
        "note", "person(s) without labelled keypoints, which are masked", "ignored",
        "their region is masked", "nothing",
    ),
    # ---------------------------------------------------------------------------------------- files
    "image_missing": Kind(
        "serious", "image file(s) that are not there", "everybody in them is missed",
        "left out, as blank samples", "fetch them, or take the images out; check data.root",
    ),
    "image_corrupt": Kind(
        "serious", "image file(s) that cannot be read", "everybody in them is missed",
        "left out, as blank samples", "fetch them again",
    ),
    "image_mismatch": Kind(
        "serious", "image(s) of another size than the file says",
        "left out and named; everybody in them is missed", "left out, as blank samples",
        "were the images resized or turned (EXIF) after they were annotated?",
    ),
    "image_turn_unclear": Kind(
        "doubtful",
        "annotated image(s) with an EXIF turn that their size does not tell (180 degrees, mirrored, square)",
        "if they were annotated as shown, everybody in them is missed", "read as stored",
        "look at them; if they were annotated as shown: data.orientation=exif (--orientation exif)",
    ),
    "image_turned": Kind(
        "note", "image(s) with an EXIF turn that were annotated as shown", "none: read turned",
        "read turned", "nothing; other tools may read them as stored",
    ),
}  # fmt: skip

AS_A_WHOLE = {
    "crowdpose",
    "names",
    "limbs",
    "no_images",
    "no_people",
    "no_sides",
    "unnamed",
    "sides_file",
}  # about the file as a whole: no number of them
