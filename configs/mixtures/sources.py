# SPDX-License-Identifier: Apache-2.0
"""The data sets of the mixtures: where their media are, and their licences as far as stated."""

from filax.configs.mixtures.parts import DataSource

VIDEOCHAT_FLASH = (
  "https://huggingface.co/datasets/OpenGVLab/VideoChat-Flash-Training-Data (card: Apache-2.0)"
)
ACTIVITYNET = DataSource("ActivityNet", "http://activity-net.org/")
BLIP_558K = DataSource("BLIP-558K", "https://huggingface.co/datasets/liuhaotian/LLaVA-Pretrain")
CLEVRER = DataSource("CLEVRER", "http://clevrer.csail.mit.edu/")
COIN = DataSource("COIN", "https://coin-dataset.github.io/")
DIDEMO = DataSource("DiDeMo", "https://github.com/LisaAnne/TemporalLanguageRelease")
EGO4D = DataSource("Ego4D", "https://ego4d-data.org/", "agreement, signed for each institution")
FAVD = DataSource("FAVDBench", "https://github.com/OpenNLPLab/FAVDBench")
GUI_WORLD = DataSource("GUI-World", "https://gui-world.github.io/")
HIREST = DataSource("HiREST", "https://hirest-cvpr2023.github.io/")
KINETICS_400 = DataSource("Kinetics-400", "https://opendatalab.com/OpenMMLab/Kinetics-400")
KINETICS_700 = DataSource("Kinetics-700", "https://opendatalab.com/OpenMMLab/Kinetics_700")
KINETICS_710 = DataSource("Kinetics-710", "unknown")
LLAVA_NEXT = DataSource(
  "LLaVA-NeXT-Data", "https://huggingface.co/datasets/lmms-lab/LLaVA-NeXT-Data"
)
LLAVA_VIDEO = DataSource(
  "LLaVA-Video-178K",
  "https://huggingface.co/datasets/lmms-lab/LLaVA-Video-178K",
  "card: academic research, and the terms of GPT-4o's outputs; videos have their own",
)
LONGVID = DataSource(
  "LongVid",
  "https://huggingface.co/datasets/OpenGVLab/VideoChat-Flash-Training-Data/tree/main/longvid_subset",
  "card: Apache-2.0; HT-Step CC-BY-NC-4.0, Ego4D by signed agreement",
)
LSMDC = DataSource("LSMDC", "https://sites.google.com/site/describingmovies/")
M4_INSTRUCT = DataSource(
  "M4-Instruct-Data", "https://huggingface.co/datasets/lmms-lab/M4-Instruct-Data"
)
MOVIECHAT = DataSource("MovieChat-1K", "https://huggingface.co/datasets/Enxin/MovieChat-1K_train")
NEXTQA = DataSource(
  "NExT-QA", "https://github.com/doc-doc/NExT-QA", "annotations: MIT; videos: of VidOR"
)
NOT_RELEASED = DataSource("not released", "not released")
NO_MEDIA = DataSource("text", "none: text alone")
NTU_RGBD = DataSource("NTU RGB+D", "https://rose1.ntu.edu.sg/dataset/actionRecognition/")
ONEVISION = DataSource(
  "LLaVA-OneVision-Data", "https://huggingface.co/datasets/lmms-lab/LLaVA-OneVision-Data"
)
ONEVISION_MID = DataSource(
  "LLaVA-OneVision-Mid-Data", "https://huggingface.co/datasets/lmms-lab/LLaVA-OneVision-Mid-Data"
)
OOPS = DataSource("Oops!", "https://oops.cs.columbia.edu/")
OVIS = DataSource("OVIS", "https://songbai.site/ovis/")
PERCEPTION_TEST = DataSource(
  "Perception Test", "https://github.com/google-deepmind/perception_test", "CC-BY 4.0"
)
QUERYD = DataSource("QuerYD", "https://www.robots.ox.ac.uk/~vgg/data/queryd/")
RECAP_118K = DataSource(
  "LLaVA-ReCap-118K", "https://huggingface.co/datasets/lmms-lab/LLaVA-ReCap-118K"
)
RECAP_558K = DataSource(
  "LLaVA-ReCap-558K", "https://huggingface.co/datasets/lmms-lab/LLaVA-ReCap-558K"
)
RECAP_CC3M = DataSource(
  "LLaVA-ReCap-CC3M", "https://huggingface.co/datasets/lmms-lab/LLaVA-ReCap-CC3M"
)
SHAREGPT4O = DataSource("ShareGPT-4o", "https://sharegpt4o.github.io/")
SHAREGPTVIDEO = DataSource(
  "ShareGPTVideo",
  "https://huggingface.co/datasets/ShareGPTVideo/train_video_and_instruction/tree/main/train_300k",
)
SMIT = DataSource("S-MiT", "http://moments.csail.mit.edu/spoken.html")
SSV2 = DataSource(
  "Something-Something V2",
  "https://www.qualcomm.com/developer/software/something-something-v-2-dataset",
)
STAR = DataSource("STAR", "https://bobbywu.com/STAR/")
TEXTVR = DataSource("TextVR", "https://github.com/callsys/TextVR")
TGIF = DataSource("TGIF-QA", "https://github.com/YunseokJANG/tgif-qa")
TVQA = DataSource("TVQA", "https://nlp.cs.unc.edu/data/jielei/tvqa/tvqa_public_html/index.html")
UVO = DataSource("UVO", "https://sites.google.com/view/unidentified-video-object/dataset")
VITT = DataSource("ViTT", "https://github.com/google-research-datasets/Video-Timeline-Tags-ViTT")
VRIPT = DataSource("Vript", "https://huggingface.co/datasets/Mutonix/Vript")
WEBVID = DataSource("WebVid", "https://github.com/m-bain/webvid")
YOUCOOK2 = DataSource("YouCook2", "http://youcook2.eecs.umich.edu/")
