# SPDX-License-Identifier: Apache-2.0
"""The wordings of generated questions. VERSION changes with any of them."""

VERSION = 1

# Task -> stems. {label} is an event's name, {items} a numbered list; both end the stem or stand in
# quotes, so that any text fits.
STEMS = {
  "caption_short": (
    "Describe what happens in this video in one or two sentences.",
    "Summarise the video briefly.",
    "What is going on in this video? Answer briefly.",
    "Give a short description of the video.",
    "Tell in a few words what the video shows.",
    "What does this video show? Keep the answer short.",
  ),
  "caption_dense": (
    "Describe the events of this video in order, each with its start and end in seconds.",
    "List what happens in the video from the beginning to the end, with times in seconds.",
    "Write a detailed account of the video: one line for each event, with its time span.",
    "Go through the video event by event and give the seconds between which each takes place.",
    "What happens in this video, and when? Give one line with start and end for every event.",
    "Caption every event of the video with its time span in seconds.",
  ),
  "grounding": (
    'When does this happen in the video: "{label}"?',
    'During which part of the video can this be seen: "{label}"?',
    'In which time span does the following take place: "{label}"?',
    'Find the moment of this event: "{label}". When does it take place?',
    'Which seconds of the video show this: "{label}"?',
    'At what time of the video does this occur: "{label}"?',
  ),
  "grounding_free": (
    'When does this happen in the video: "{label}"? Give the start and the end in seconds.',
    'Give the time span, in seconds, in which the following takes place: "{label}".',
    'From which second to which second does the video show this: "{label}"?',
    'Locate this event in the video and state its start and end in seconds: "{label}".',
    'Between which seconds can this be seen: "{label}"?',
    'Name the start and the end, in seconds, of this event: "{label}".',
  ),
  "event_order": (
    "Put these events in the order in which the video shows them.{items}",
    "In which order do the following events happen in the video?{items}",
    "Sort these events by the time at which they begin in the video.{items}",
    "Which sequence of the following events does the video follow?{items}",
    "The events below are shuffled. What is their order in the video?{items}",
    "Arrange the events from the first to the last one in the video.{items}",
  ),
  "event_after": (
    'What happens right after this: "{label}"?',
    'Which event follows next in the video after "{label}"?',
    'What comes directly after this in the video: "{label}"?',
    'Once this is over, what happens next: "{label}"?',
    'Which of these events is the next one after "{label}"?',
    'After "{label}", what does the video show next?',
  ),
  "event_before": (
    'What happens right before this: "{label}"?',
    'Which event directly precedes "{label}" in the video?',
    'What comes immediately before this in the video: "{label}"?',
    'What did the video show last before this: "{label}"?',
    'Which of these events is the last one before "{label}"?',
    'Before "{label}", what happens in the video?',
  ),
  "scene_order": (
    "Put these places in the order in which the video first shows them.{items}",
    "In which order do the following places first appear in the video?{items}",
    "Sort these places by their first appearance in the video.{items}",
    "Which sequence of the following places does the video follow at first sight of each?{items}",
    "The places below are shuffled. In which order does the video first show them?{items}",
    "Arrange the places by the time at which the video first shows them.{items}",
  ),
  "count": (
    'How many times does this happen in the video: "{label}"?',
    'How often can this be seen in the video: "{label}"?',
    'Count how often this takes place in the video: "{label}".',
    'What is the number of separate times that this happens: "{label}"?',
    'How many separate occurrences of this does the video show: "{label}"?',
    'On how many occasions does the video show this: "{label}"?',
  ),
}

FREE_SPANS = (
  "It happens at {span}.",
  "This takes place at {span}.",
  "The video shows it at {span}.",
)
ITEM = "\n{number}. {label}"
ORDER_ARROW = " -> "
SPAN = "{start:.1f} - {end:.1f} seconds"
SCENE_LINE = "{start} - {end} seconds: {text}"
