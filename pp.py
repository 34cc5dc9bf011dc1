# cProfile by calls only: number of calls a question
import cProfile, pstats, glob, sys
from data_pipelines.synthesis.longvid.question_files import ShardBuilder, QuestionRules
src="/tmp/dw/out-old/plain"
paths=sorted(glob.glob(src+"/tracks-*"))[:6]
b=ShardBuilder(QuestionRules(), src+"/guard.json", "/dev/shm"); b((0,paths[0],"train-x"))
p=cProfile.Profile(); p.enable(); q=0
for n,q_ in enumerate(paths): q+=b((n,q_,"train-x")).facts.records
p.disable()
s=pstats.Stats(p); print(q)
rows=sorted(((v[1]/q,v[2]/q*1e6,v[3]/q*1e6,k[0].rsplit("/",1)[-1],k[2]) for k,v in s.stats.items()),key=lambda r:-r[1])
for r in rows[:70]: print("%6.2f calls %6.2f self %6.2f cum  %s %s"%r)
