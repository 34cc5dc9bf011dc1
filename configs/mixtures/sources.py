# SPDX-License-Identifier: Apache-2.0
"""The data sets of the mixtures: where their media are, and their licences as far as stated."""

from configs.mixtures.parts import Source

VIDEOCHAT_FLASH = (
  "https://huggingface.co/datasets/OpenGVLab/VideoChat-Flash-Training-Data (card: Apache-2.0)"
)
ACTIVITYNET = Source("ActivityNet", "http://activity-net.org/")
BLIP_558K = Source("BLIP-558K", "https://huggingface.co/datasets/liuhaotian/LLaVA-Pretrain")
CLEVRER = Source("CLEVRER", "http://clevrer.csail.mit.edu/")
COIN = Source("COIN", "https://coin-dataset.github.io/")
DIDEMO = Source("DiDeMo", "https://github.com/LisaAnne/TemporalLanguageRelease")
EGO4D = Source("Ego4D", "https://ego4d-data.org/", "agreement, signed for each institution")
FAVD = Source("FAVDBench", "https://github.com/OpenNLPLab/FAVDBench")
GUI_WORLD = Source("GUI-World", "https://gui-world.github.io/")
HIREST = Source("HiREST", "https://hirest-cvpr2023.github.io/")
KINETICS_400 = Source("Kinetics-400", "https://opendatalab.com/OpenMMLab/Kinetics-400")
KINETICS_700 = Source("Kinetics-700", "https://opendatalab.com/OpenMMLab/Kinetics_700")
KINETICS_710 = Source("Kinetics-710", "unknown")
LLAVA_NEXT = Source("LLaVA-NeXT-Data", "https://huggingface.co/datasets/lmms-lab/LLaVA-NeXT-Data")
LLAVA_VIDEO = Source(
  "LLaVA-Video-178K",
  "https://huggingface.co/datasets/lmms-lab/LLaVA-Video-178K",
  "card: academic research, and the terms of GPT-4o's outputs; videos have their own",
)
LONGVID = Source(
  "LongVid",
  "https://huggingface.co/datasets/OpenGVLab/VideoChat-Flash-Training-Data/tree/main/longvid_subset",
  "card: Apache-2.0; HT-Step CC-BY-NC-4.0, Ego4D by signed agreement",
)
LSMDC = Source("LSMDC", "https://sites.google.com/site/describingmovies/")
M4_INSTRUCT = Source(
  "M4-Instruct-Data", "https://huggingface.co/datasets/lmms-lab/M4-Instruct-Data"
)
MOVIECHAT = Source("MovieChat-1K", "https://huggingface.co/datasets/Enxin/MovieChat-1K_train")
NEXTQA = Source(
  "NExT-QA", "https://github.com/doc-doc/NExT-QA", "annotations: MIT; videos: of VidOR"
)
NOT_RELEASED = Source("not released", "not released")
NO_MEDIA = Source("text", "none: text alone")
NTU_RGBD = Source("NTU RGB+D", "https://rose1.ntu.edu.sg/dataset/actionRecognition/")
ONEVISION = Source(
  "LLaVA-OneVision-Data", "https://huggingface.co/datasets/lmms-lab/LLaVA-OneVision-Data"
)
ONEVISION_MID = Source(
  "LLaVA-OneVision-Mid-Data", "https://huggingface.co/datasets/lmms-lab/LLaVA-OneVision-Mid-Data"
)
OOPS = Source("Oops!", "https://oops.cs.columbia.edu/")
OVIS = Source("OVIS", "https://songbai.site/ovis/")
PERCEPTION_TEST = Source(
  "Perception Test", "https://github.com/google-deepmind/perception_test", "CC-BY 4.0"
)
QUERYD = Source("QuerYD", "https://www.robots.ox.ac.uk/~vgg/data/queryd/")
RECAP_118K = Source("LLaVA-ReCap-118K", "https://huggingface.co/datasets/lmms-lab/LLaVA-ReCap-118K")
RECAP_558K = Source("LLaVA-ReCap-558K", "https://huggingface.co/datasets/lmms-lab/LLaVA-ReCap-558K")
RECAP_CC3M = Source("LLaVA-ReCap-CC3M", "https://huggingface.co/datasets/lmms-lab/LLaVA-ReCap-CC3M")
SHAREGPT4O = Source("ShareGPT-4o", "https://sharegpt4o.github.io/")
SHAREGPTVIDEO = Source(
  "ShareGPTVideo",
  "https://huggingface.co/datasets/ShareGPTVideo/train_video_and_instruction/tree/main/train_300k",
)
SMIT = Source("S-MiT", "http://moments.csail.mit.edu/spoken.html")
SSV2 = Source(
  "Something-Something V2",
  "https://www.qualcomm.com/developer/software/something-something-v-2-dataset",
)
STAR = Source("STAR", "https://bobbywu.com/STAR/")
TEXTVR = Source("TextVR", "https://github.com/callsys/TextVR")
TGIF = Source("TGIF-QA", "https://github.com/YunseokJANG/tgif-qa")
TVQA = Source("TVQA", "https://nlp.cs.unc.edu/data/jielei/tvqa/tvqa_public_html/index.html")
UVO = Source("UVO", "https://sites.google.com/view/unidentified-video-object/dataset")
VITT = Source("ViTT", "https://github.com/google-research-datasets/Video-Timeline-Tags-ViTT")
VRIPT = Source("Vript", "https://huggingface.co/datasets/Mutonix/Vript")
WEBVID = Source("WebVid", "https://github.com/m-bain/webvid")
YOUCOOK2 = Source("YouCook2", "http://youcook2.eecs.umich.edu/")
